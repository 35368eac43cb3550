"""The dock agent of Liuhen: a program of its own that runs where cameras are plugged in.

It imports nothing of the server's packages; the two meet in the wire protocol alone
(docs/guide/integrate.md): tus 1.0 for the bytes, a signed receipt for the leave to wipe.
"""

__version__ = "0.1.0"

"""One detector a module, behind redaction.detect."""

"""One detector a module, behind redaction.detect; what they share is in network, formats in tflite."""

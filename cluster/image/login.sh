# A login shell replaces what the image has as PATH.
PATH=/opt/sa-ray/bin:$PATH

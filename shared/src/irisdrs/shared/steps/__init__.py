"""stpipe's Step and Pipeline for IRIS. A distribution that has steps installs `irisdrs-shared[steps]`."""

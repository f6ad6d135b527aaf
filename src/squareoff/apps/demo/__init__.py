"""One generated trading day in about 20 seconds, with real processes, and things going wrong on purpose."""

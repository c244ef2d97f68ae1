"""The Unix-only parts of the loop: the selector loop, children, signals, ``os.sendfile``."""

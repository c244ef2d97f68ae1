"""What only Unix has of the loop: the selector loop, children, signals, ``os.sendfile``."""

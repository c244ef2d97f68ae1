"""What only Windows has of the loop: the proactor loop, its ``sock_*``, its readers."""

"""A mixed load for as long as asked, with every byte checked and every leak told."""

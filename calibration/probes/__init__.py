"""What is measured on this machine: each module times one kind of thing, through a campaign's journal."""

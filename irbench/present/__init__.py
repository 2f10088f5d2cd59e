"""Words, numbers and looks that report and compare share."""

"""The languages in which seeds can be written: one file each."""

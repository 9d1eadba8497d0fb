"""The report's sections, a file each: `section(subject, measured)`, None where there is nothing to show."""

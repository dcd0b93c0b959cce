"""What people write, read: headers, options, bodies, with errors that point into the text."""

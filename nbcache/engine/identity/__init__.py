"""What makes two tasks the same: captured names, modules, packages, tools, inputs, reads."""

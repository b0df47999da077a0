"""Reading of environment variables. A wrong value stops the start; the message names the variable."""

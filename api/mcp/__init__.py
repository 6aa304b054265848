"""What an assistant may ask: read-only tools of the Model Context Protocol."""

"""What the HTML page shows, as plain data; the template, the style and the script lie beside it."""

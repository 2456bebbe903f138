"""Events in, one self-contained HTML page, JSON and Markdown out."""

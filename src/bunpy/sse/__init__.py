"""Server-Sent Events (WHATWG HTML 9.2): the event, the response that streams it, and the stream itself."""

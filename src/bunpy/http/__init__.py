"""HTTP/1.1: bytes into requests, responses into bytes, and the asyncio Protocol between them."""

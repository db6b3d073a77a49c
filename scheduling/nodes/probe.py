"""Is the server inside a container answering yet? Asked often and cheaply, so that nobody waits for a long sleep."""

import socket

TIMEOUT_S = 2.0


def answers(address: tuple[str, int], path: str) -> bool:
    """One HTTP/1.0 GET; any status below 500 means that it serves. Refused, reset or silent ones mean not yet."""
    request = f"GET {path} HTTP/1.0\r\nHost: {address[0]}\r\nConnection: close\r\n\r\n".encode()
    try:
        with socket.create_connection(address, timeout=TIMEOUT_S) as connection:
            connection.sendall(request)
            head = connection.recv(64)
    except OSError:
        return False
    # "HTTP/1.1 200 OK": the status is the second word
    words = head.split(b" ", 2)
    return len(words) >= 2 and words[0].startswith(b"HTTP/") and words[1].isdigit() and int(words[1]) < 500

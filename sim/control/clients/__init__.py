"""What clients and their proxies do when an answer is late or an error: back off, retry, hedge, give up, avoid a host."""

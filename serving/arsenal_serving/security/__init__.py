"""Who asks, and what they may: keys, tokens, scopes, rates and TLS."""

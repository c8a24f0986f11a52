"""The artifact: a folder of versions, what is in each, and what makes it true."""

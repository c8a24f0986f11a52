"""The models that are live: which versions, in which engine, on trial and proven how."""

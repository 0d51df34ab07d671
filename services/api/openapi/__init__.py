"""Makes the documents: OpenAPI and a page of the endpoints, AsyncAPI of the event catalog.

Nothing here names a route: handlers declare their endpoints themselves.
"""

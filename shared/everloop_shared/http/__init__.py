"""HTTP for every service: the endpoint, request bodies, pages and error responses."""

from everloop_shared.http.bodies import read_body
from everloop_shared.http.endpoint import HttpEndpoint
from everloop_shared.http.pages import page
from everloop_shared.http.problems import ContentTooLarge, UnsupportedMediaType

__all__ = ["ContentTooLarge", "HttpEndpoint", "UnsupportedMediaType", "page", "read_body"]

"""A report that opens in a browser: one file with maps, numbers, curves and what made them."""

from vis.report.page import Page, write_page

__all__ = ["Page", "write_page"]

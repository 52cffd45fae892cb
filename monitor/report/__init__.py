"""Draws reviews for people and scripts. Reads only a :class:`~monitor.review.Review`; touches no model, no guard."""

from __future__ import annotations

from monitor.report.html import write_index, write_review_page
from monitor.report.markdown import review_markdown
from monitor.report.schema import review_schema
from monitor.report.summary import SummaryEntry, summary_entries, summary_table, write_summary

__all__ = [
    "SummaryEntry",
    "review_markdown",
    "review_schema",
    "summary_entries",
    "summary_table",
    "write_index",
    "write_review_page",
    "write_summary",
]

"""Result files to tables, figures and pages; never imports torch or Lightning, and nothing heavy before it is needed."""

from hybrid_retrieval.reporting.run_report import report_run

__all__ = ["report_run"]

"""The page: report.html."""

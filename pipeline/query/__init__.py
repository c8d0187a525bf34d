"""Questions to a run in SQL: its views, the closed door to DuckDB, and answers in many forms."""

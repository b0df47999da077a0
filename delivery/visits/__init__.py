"""Visits: a customer is present, so matching runs and their in-app messages are shown (behaviour 4.5 to 4.7).

A visit takes one of two paths, and both end in the same statement (`statement`).

The full path (`visit.full_visit`) handles any visit. It identifies the customer by `audiences.intake` or
`delivery.customers.merge`, locks the row, writes the session and runs the statement.

The fast path (`visit.fast_visit`) handles a known customer when only their own row changes. `fast_path` reads the
claimed identity without the database, then finds, locks and reads the customer in one statement, so a visit takes three
statements at most. For any other visit it raises `NeedsFullVisit` before it writes anything, and the full path follows.

Both paths must leave the same rows and give the same answer. The property test `test_fast_path_and_full_path_agree` in
tests/delivery/visits/test_paths_agree.py proves it; test_statement_counts.py bounds the number of statements.
"""

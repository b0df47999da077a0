"""Operations on one customer that touch every table: merge, erasure and data export."""

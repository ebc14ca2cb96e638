"""What a one-shot operator is measured against."""

"""The input schema: what may be one, which inputs fit it, what it adds to them. No I/O. docs: input_schema."""

"""HTTP only: parse, authorise, call one service function, shape the reply."""

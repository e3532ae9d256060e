"""The parts of the page of an evaluation: tables, drawings, pictures, one module a kind."""

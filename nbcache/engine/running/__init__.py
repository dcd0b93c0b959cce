"""A run: prepared, decided, driven, resumed, published."""

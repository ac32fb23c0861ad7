"""The elementwise chains of a decoder, each in one pass over memory: in C where there is a compiler, in torch elsewhere."""

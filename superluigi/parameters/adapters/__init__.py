"""What an annotation means for a value: is it one, its JSON form, and back. Pure, one adapter for a kind of type.

`factory` finds the adapter of an annotation; `basic`, `classes`, `text_types` and `task_adapters` are the kinds.
Imports `parameters.references` and packages below. On from here: `parameters.checked` makes Luigi parameters of them.
"""

"""The functions of ``import irbench``, each documented where it is defined.

``irbench/__init__.py`` lists the public names and imports them from here on first use.

Try: ``python -c "import irbench; print(irbench.list_models())"``
"""

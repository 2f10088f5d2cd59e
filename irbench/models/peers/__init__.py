"""Networks of other groups, written anew from their papers, for the weights of their authors.

Each module holds one network and ``build(scale, channels, **options)``, which returns it. Modules
and parameters have the names of the authors' files, so that their weights load as they are. The
catalog (``catalog/peers.yaml``) says which file belongs to which network; ``irbench anchors``
compares with what the papers print. They are not trained here and have no cards in the registry.

Try: ``python -c "from irbench.models import registry; print(registry.build_peer('imdn', 2, 3))"``
"""

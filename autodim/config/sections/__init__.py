"""One file per section of the YAML; `autodim.config.schema` gathers them. Torch-free."""

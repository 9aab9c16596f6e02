"""The Ray that trials run on: joined or started, its nodes, and how many trials have room."""

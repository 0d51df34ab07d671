"""The events that flow between services: their data, envelope and map."""

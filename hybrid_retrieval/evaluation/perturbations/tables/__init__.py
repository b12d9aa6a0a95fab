"""Data that perturbations read, and the script that makes them: keyboards, homoglyphs, function words."""

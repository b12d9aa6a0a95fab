"""Result files to tables, figures and pages; never imports torch or Lightning."""

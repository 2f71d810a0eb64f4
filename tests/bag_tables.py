"""Five slots on four tables, one of them a bag and two that share a table: the smallest log that has every kind."""

from autodim.embedding.layout import Slot, Table, uniform_layout

D = 8
SLOTS = (Slot("a", "a"), Slot("b", "b"), Slot("tags", "tags", multi=True), Slot("c", "b"), Slot("d", "d"))
TABLES = (Table("a", 50), Table("b", 30), Table("tags", 12), Table("d", 5))
UNIFORM = uniform_layout(SLOTS, TABLES, D)

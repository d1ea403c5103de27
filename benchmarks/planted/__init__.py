"""A benchmark with known answers: which score finds the experts in which an attack was planted?"""

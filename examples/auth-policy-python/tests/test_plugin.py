"""The policy around the clock, run natively: what it asks of the host is what a test says."""

import unittest
from unittest import mock

from componentize_py_types import Err
from wit_world.imports import types

import plugin


class Request:
    """A request of somebody with these roles."""

    def __init__(self, *roles):
        self.roles = roles

    def has_role(self, name):
        return name in self.roles


class Hours(unittest.TestCase):
    def setUp(self):
        plugin.Lifecycle().configure('{"opens": 8, "closes": 18}')

    def is_open(self, hour, *roles):
        with mock.patch("wit_world.imports.context.time_ns", return_value=hour * plugin.HOUR_NS):
            answer = plugin.Policy().authorize("alice", "GET", "/", Request(*roles))
        return isinstance(answer, types.Decision_Abstain)

    def test_opens_and_closes_on_the_hour(self):
        for hour in range(24):
            with self.subTest(hour=hour):
                self.assertEqual(self.is_open(hour), 8 <= hour < 18)
                self.assertTrue(self.is_open(hour, "on-call"))

    def test_hours_that_make_no_sense_are_refused(self):
        for text in ('{"opens": 9, "closes": 9}', '{"opens": 8, "closes": 25}', '{"opens": 8}'):
            with self.subTest(text), self.assertRaises(Err) as refused:
                plugin.Lifecycle().configure(text)
            self.assertEqual(refused.exception.value.at, "/closes")

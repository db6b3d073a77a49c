"""`manage.py label_node NODE zone=a fast- --path block-1/rack-2`: what jobs may ask of a machine, until pages do it."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from scheduling.models import Node
from scheduling.wiring import wired
from tenants.management.asking import started_once


class Command(BaseCommand):
    help = "Set labels of NODE (KEY=VALUE), take them away (KEY-), and say where it stands in the building (--path)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("node", metavar="NODE")
        parser.add_argument("labels", nargs="*", metavar="KEY=VALUE|KEY-")
        parser.add_argument("--path", metavar="A/B", help="its domains from the widest to the narrowest; '' for none")

    def handle(self, *args: object, **options: Any) -> None:
        started_once()
        node = Node.objects.filter(name=options["node"]).first()
        if node is None:
            known = ", ".join(Node.objects.values_list("name", flat=True)[:20])
            raise CommandError(f"There is no node '{options['node']}'. Nodes: {known or 'none yet'}.")
        for label in options["labels"]:
            key, given, value = label.partition("=")
            if given and key:
                node.labels[key] = value
            elif label.endswith("-") and len(label) > 1:
                node.labels.pop(label[:-1], None)
            else:
                raise CommandError(f"'{label}' is neither KEY=VALUE nor KEY-.")
        if options["path"] is not None:
            node.path = [name for name in options["path"].split("/") if name]
            levels = wired().policy.levels
            if len(node.path) > len(levels):
                raise CommandError(f"The path has {len(node.path)} levels; the policy names {', '.join(levels)}.")
        node.save(update_fields=["labels", "path"])
        labels = " ".join(f"{key}={value}" for key, value in sorted(node.labels.items()))
        self.stdout.write(f"{node.name}: {labels or 'no labels'}, {'/'.join(node.path) or 'no path'}")

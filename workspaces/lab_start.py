"""Starts JupyterLab inside a workspace. Runs as `python3 -c <this text>` in any Jupyter image, without Berth.

Who comes in is decided by one header and nothing else. Only the gateway knows the token, so no page, cookie, address or
file carries it, and no file in the home folder can open the door: server settings are the image's (/etc/jupyter and the
like). The person's own JupyterLab settings, kernels, extensions and IPython profile in the home work as everywhere.
"""

import sys

sys.path[:] = [entry for entry in sys.path if entry]  # the home is the working folder, and it may hold a random.py

import functools  # noqa: E402
import gc  # noqa: E402
import hmac  # noqa: E402
import importlib.util  # noqa: E402
import os  # noqa: E402
import types  # noqa: E402

# Other pages than JupyterLab's: loaded when the server already listens, because everybody would wait for them.
LATER = ("nbclassic", "notebook", "notebook_shim")
LATER_SECONDS = 3

# Asks each new person whether to fetch news from the web, which a workspace may not reach.
NEWS = "@jupyterlab/apputils-extension:announcements"


def put_off_what_nobody_waits_for():
    """Keep two things out of the start that take longer than all the rest of it together.

    jsonschema compiles a grammar for 1.5 s to check a format (iri) that no Jupyter schema has, and JupyterLab starts
    node to read a yarn registry that only matters when extensions are built from source.
    """
    if importlib.util.find_spec("rfc3987_syntax"):
        lazy = types.ModuleType("rfc3987_syntax")

        @functools.cache
        def compiled():
            del sys.modules["rfc3987_syntax"]
            return importlib.import_module("rfc3987_syntax").is_valid_syntax

        vars(lazy)["is_valid_syntax"] = lambda term, value: compiled()(term, value)
        sys.modules["rfc3987_syntax"] = lazy
    from jupyterlab import commands

    commands._yarn_config = lambda logger: {"yarn config": {}, "npm config": {}}


def send_without_waiting():
    """A cell's answer is several small messages, and by default each waits up to 40 ms for the last one's receipt."""
    from jupyter_server.base.zmqhandlers import WebSocketMixin

    opened = WebSocketMixin.open

    def open_without_delay(self, *args, **kwargs):
        self.set_nodelay(True)
        return opened(self, *args, **kwargs)

    WebSocketMixin.open = open_without_delay


def server_class(token, door):
    """Return Jupyter's server class with `door` (its own settings) and `token` beyond the reach of any file."""
    from jupyter_core.paths import jupyter_config_path
    from jupyter_server.auth.identity import IdentityProvider, User
    from jupyter_server.extension.config import ExtensionConfigManager
    from jupyter_server.serverapp import ServerApp
    from tornado.web import HTTPError
    from traitlets import Unicode
    from traitlets.config import Config

    name = os.environ.get("USER") or "user"
    person = User(username=name, initials=name[:1].upper())
    expected = f"token {token}".encode()
    home = os.path.expanduser("~")
    homes = (os.path.join(home, ""), os.path.join(os.path.realpath(home), ""))

    class HeaderOnly(IdentityProvider):
        """Lets in what has `Authorization: token <token>`; there is no cookie, no login page and no password."""

        token = Unicode("")  # what pages and info files show; untagged, so that no setting changes it
        login_available = logout_available = False

        def get_user(self, handler):
            sent = handler.request.headers.get("Authorization", "").encode("utf-8", "replace")
            if hmac.compare_digest(sent, expected):
                return person
            raise HTTPError(403)

        def is_token_authenticated(self, handler):
            """Whether Jupyter's checks against other sites' pages may be left out, as they are for programs.

            The gateway adds the token to all that a browser sends. It has checked where that came from; a request that
            says itself that another site's page sent it is checked here again.
            """
            sender = handler.request.headers.get("Sec-Fetch-Site", "none")
            return handler.current_user is not None and sender in ("none", "same-origin")

    class Server(ServerApp):
        no_browser_open_file = True
        later: list[str] = []
        jpserver_extensions: dict[str, bool]

        @property
        def config_file_paths(self):
            return [path for path in super().config_file_paths if not os.path.join(path, "").startswith(homes)]

        def find_server_extensions(self):
            found = ExtensionConfigManager(read_config_path=jupyter_config_path()).get_jpserver_extensions()
            self.later = [name for name in LATER if found.pop(name, False)]
            self.jpserver_extensions = {**found, **self.jpserver_extensions}

        def init_configurables(self):
            # Here all files have spoken, those of the extensions too; what decides who comes in is set after them.
            self.update_config(Config(ServerApp={**door, "identity_provider_class": HeaderOnly}))
            super().init_configurables()

        def start_ioloop(self):
            gc.freeze()
            gc.enable()
            self.io_loop.call_later(LATER_SECONDS, self.load_later)
            super().start_ioloop()

        async def load_later(self):
            manager = self.extension_manager
            for name in self.later:
                if manager.add_extension(name, enabled=True):
                    manager.link_extension(name)
                    manager.load_extension(name)
                    if hasattr(manager, "start_extension"):  # since jupyter_server 2.15
                        await manager.start_extension(name)

    return Server


def ask_for_no_news(handler, page_config):
    page_config["disabledExtensions"] = sorted({NEWS, *page_config.get("disabledExtensions", ())})
    return page_config


def main():
    token = os.environ.pop("BERTH_TOKEN", "")  # popped, so that kernels and terminals do not inherit it
    if not token:
        sys.exit("JupyterLab does not start without a token: set BERTH_TOKEN.")
    home = os.path.expanduser("~")
    if not os.access(home, os.W_OK | os.X_OK):
        sys.exit(f"The home folder {home} cannot be written to: it must belong to uid {os.getuid()}.")
    gc.disable()  # a start drops few of the objects it makes; looking for them costs a tenth of it
    try:
        put_off_what_nobody_waits_for()
        send_without_waiting()
        from jupyterlab.labapp import LabApp
    except ModuleNotFoundError as missing:
        sys.exit(f"This image has no working JupyterLab ({missing}): install jupyterlab in it.")

    door = {
        "ip": os.environ.get("BERTH_BIND", "0.0.0.0"),
        "port": int(os.environ.get("BERTH_PORT", "8888")),
        "port_retries": 0,
        "sock": "",
        "base_url": "/",
        "certfile": "",
        "keyfile": "",
        "client_ca": "",
        "allow_root": True,  # who runs it is the driver's choice, and made before this
        "allow_remote_access": True,
        "disable_check_xsrf": False,
        "allow_origin": "",
        "allow_origin_pat": "",
        "authorizer_class": "jupyter_server.auth.authorizer.AllowAllAuthorizer",
        "tornado_settings": {"page_config_hook": ask_for_no_news},
        "extra_services": [],
        "trust_xheaders": True,
        "open_browser": False,
        "shutdown_no_activity_timeout": 0,
        "terminals_enabled": True,
        # No login shell: on Debian /etc/profile would take the lab's own Python off PATH.
        "terminado_settings": {"shell_command": [os.environ["SHELL"]]} if os.environ.get("SHELL") else {},
        "quit_button": False,  # the portal stops a workspace; a logout there would log out of nothing
        "root_dir": home,
    }

    LabApp.serverapp_class = server_class(token, door)
    LabApp.launch_instance(
        argv=[
            "--LabApp.default_url=/lab",
            "--LabApp.news_url=None",
            "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate",
            "--MappingKernelManager.cull_idle_timeout=0",
            "--TerminalManager.cull_inactive_timeout=0",
        ]
    )


if __name__ == "__main__":
    main()

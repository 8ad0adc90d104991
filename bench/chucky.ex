# The chapter's Chucky, with a listener on TCP inside the application: the peer on the Erlang side.
#
# A server and its supervisor have global names, as there; CHUCKY_PORT and CHUCKY_FACTS say where it
# listens and which facts it has.
defmodule Chucky do
  use Application
  require Logger

  def start(type, _args) do
    case type do
      :normal -> Logger.info("Application is started on #{node()}")
      {:takeover, old_node} -> Logger.info("#{node()} is taking over #{old_node}")
      {:failover, old_node} -> Logger.info("#{old_node} is failing over to #{node()}")
    end

    children = [Chucky.Server, Chucky.Listener]
    Supervisor.start_link(children, strategy: :one_for_one, name: {:global, Chucky.Supervisor})
  end

  def fact, do: GenServer.call({:global, Chucky.Server}, :fact)
end

defmodule Chucky.Server do
  use GenServer

  def start_link(_), do: GenServer.start_link(__MODULE__, [], name: {:global, __MODULE__})

  @impl true
  def init([]) do
    {:ok, System.fetch_env!("CHUCKY_FACTS") |> File.read!() |> String.split("\n", trim: true)}
  end

  @impl true
  def handle_call(:fact, _from, facts), do: {:reply, facts |> Enum.shuffle() |> hd(), facts}
end

defmodule Chucky.Listener do
  # So many wait in accept at a time; each answers its connection and waits again.
  @acceptors 16

  def child_spec(_) do
    %{id: __MODULE__, type: :supervisor, start: {__MODULE__, :start_link, []}}
  end

  def start_link do
    port = System.fetch_env!("CHUCKY_PORT") |> String.to_integer()
    options = [:binary, active: false, reuseaddr: true, nodelay: true, backlog: 4096]
    {:ok, listener} = :gen_tcp.listen(port, options)

    acceptors =
      for n <- 1..@acceptors do
        Supervisor.child_spec({Task, fn -> serve(listener) end}, id: n, restart: :permanent)
      end

    # The listener belongs to whoever calls: the application's supervisor, which outlives these.
    Supervisor.start_link(acceptors, strategy: :one_for_one)
  end

  defp serve(listener) do
    with {:ok, client} <- :gen_tcp.accept(listener) do
      :gen_tcp.send(client, [Chucky.fact(), ?\n])
      :gen_tcp.close(client)
    end

    serve(listener)
  end
end

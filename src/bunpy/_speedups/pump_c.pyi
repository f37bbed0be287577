from bunpy._speedups.pump_py import Pump as Pump

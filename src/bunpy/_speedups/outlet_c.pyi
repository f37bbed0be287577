from bunpy._speedups.outlet_py import Outlet as Outlet
